// What Go's own client sends, over HTTP/1.1 and HTTP/2.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

func main() {
	one := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	two := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	for _, transport := range []*http.Transport{one, two} {
		client := &http.Client{Transport: transport}
		do := func(method, url string, kind string, body io.Reader) {
			request, err := http.NewRequest(method, url, body)
			if err != nil {
				fmt.Println(err)
				return
			}
			if kind != "" {
				request.Header.Set("Content-Type", kind)
			}
			if answer, err := client.Do(request); err != nil {
				fmt.Println(err)
			} else {
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		}
		do("GET", `https://api.example.com/go?q="a"&x=<y>|{z}`, "", nil)
		do("POST", "https://api.example.com/go/form", "application/x-www-form-urlencoded", strings.NewReader(url.Values{"a": {"b c", "<d>"}}.Encode()))
		// Without a length: in chunks over HTTP/1.1.
		do("PUT", "https://api.example.com/go/stream", "application/octet-stream", io.MultiReader(strings.NewReader("one"), bytes.NewReader([]byte{0, 1, 2})))
		var form bytes.Buffer
		writer := multipart.NewWriter(&form)
		writer.SetBoundary("a;b=c d")
		writer.WriteField("name", "")
		file, _ := writer.CreateFormFile("file", `x "y";z.txt`)
		file.Write([]byte("content"))
		writer.Close()
		do("POST", "https://api.example.com/go/multipart", writer.FormDataContentType(), &form)
		do("GET", "http://plain.example.com/go", "", nil)
	}
}

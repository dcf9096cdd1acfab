import java.net.*;
import java.net.http.*;
import java.nio.file.*;
import java.util.stream.*;

/** What Java's own clients send. Without TLS, the newer one offers to go on in HTTP/2. */
class Client {
    public static void main(String[] arguments) throws Exception {
        int port = URI.create(System.getenv("HTTPS_PROXY")).getPort();
        HttpClient client = HttpClient.newBuilder().proxy(ProxySelector.of(new InetSocketAddress("127.0.0.1", port))).build();
        HttpRequest.Builder[] all = {
            HttpRequest.newBuilder(URI.create("https://api.example.com/java?q=%22a%22")),
            HttpRequest.newBuilder(URI.create("https://api.example.com/java/json")).header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString("{\"a\": \"ü\"}")),
            HttpRequest.newBuilder(URI.create("https://api.example.com/java/stream")).PUT(HttpRequest.BodyPublishers.ofByteArrays(Stream.of("a".getBytes(), "b".getBytes()).toList())),
            HttpRequest.newBuilder(URI.create("http://plain.example.com/java")),
            HttpRequest.newBuilder(URI.create("http://plain.example.com/java/post")).POST(HttpRequest.BodyPublishers.ofString("a=b")),
            HttpRequest.newBuilder(URI.create("https://api.example.com/java/one")).version(HttpClient.Version.HTTP_1_1).expectContinue(true).POST(HttpRequest.BodyPublishers.ofString("x")),
        };
        for (HttpRequest.Builder request : all) {
            try { client.send(request.build(), HttpResponse.BodyHandlers.ofString()); } catch (Exception error) { System.out.println(error); }
        }
        HttpURLConnection old = (HttpURLConnection) new URL("https://api.example.com/java/old").openConnection(new Proxy(Proxy.Type.HTTP, new InetSocketAddress("127.0.0.1", port)));
        old.setDoOutput(true);
        old.setChunkedStreamingMode(64);
        old.getOutputStream().write("a=b&c=d".getBytes());
        System.out.println(old.getResponseCode());
    }
}

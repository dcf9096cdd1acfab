local json = require "std.json"
local test = require "std.test"

test.case("what goes in comes out", function()
  local value = { list = { 1, 2, 3 }, text = "a\nb", yes = true, half = 0.5 }
  test.equal(json.decode(json.encode(value)), value)
end)

test.case("null is nil, and bad text is an error", function()
  test.equal(json.decode '{"a": null}', {})
  test.fails(function() json.decode "{" end, "json.decode")
  test.fails(function() json.encode { f = log } end, "json.encode")
end)

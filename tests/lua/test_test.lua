-- The library for tests itself.
local test = require "std.test"

test.case("equal looks into tables and says what differs", function()
  test.equal({ 1, { a = "x" } }, { 1, { a = "x" } })
  test.fails(function() test.equal({ 1 }, { 2 }) end, "expected { 1 = 2 }, not { 1 = 1 }")
end)

test.case("fails wants a failure with these words", function()
  test.fails(function()
    test.fails(function() end, "x")
  end, "it did not fail")
  test.fails(function()
    test.fails(function() fail "this" end, "that")
  end, "expected that in: this")
end)

test.case("every case has a bottle of its own", function() test.equal(test.made(), {}) end)

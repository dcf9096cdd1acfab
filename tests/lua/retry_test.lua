local retry = require "std.retry"
local test = require "std.test"

test.case("it tries until it succeeds, and gives everything back", function()
  local a, b = retry(3, function(n)
    if n < 2 then fail "not yet" end
    return n, nil
  end)
  test.equal({ a, b }, { 2 })
end)

test.case("the last failure is raised as it was", function()
  local problem = test.fails(function()
    retry(2, function(n) fail("try " .. n, { hint = "none" }) end)
  end, "try 2")
  test.equal(problem.hint, "none")
end)

test.case("no tries are a mistake", function()
  test.fails(function()
    retry(0, function() end)
  end, "a number of tries from 1")
end)

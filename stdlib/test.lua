-- Tests of recipes and hooks, run by `bottler lua test` on an engine in memory: each case in its own Lua machine.
local core = ...
local test = {}

-- A case: a name and a function.
function test.case(name, work) core.test_case(name, work) end

-- A new plan of a launch with a prompt; tests may change it.
function test.plan() return core.test_plan() end

-- What this case has created so far, in order: "network outside", "sidecar egress", "agent".
function test.made() return core.test_made() end

-- Fails unless the two are equal; tables are compared by content.
function test.equal(actual, expected)
  local a, b = core.test_show(actual), core.test_show(expected)
  if a ~= b then fail("expected " .. b .. ", not " .. a) end
end

-- Fails unless the function raises an error whose message contains these words; returns the error.
function test.fails(work, words)
  local ok, problem = pcall(work)
  if ok then fail("it did not fail; expected " .. words) end
  if not tostring(problem):find(words, 1, true) then fail("expected " .. words .. " in: " .. tostring(problem)) end
  return problem
end

return test

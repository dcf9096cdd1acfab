-- The agent idles until it is told to stop: `init` of the same executable, waiting for a release that never comes.
local launch = require "std.launch"

return recipe(function(plan)
  plan.agent.command = { "/bottler", "idle" }
  local agent = launch(plan)
  return agent
end)

-- An agent that idles, and a bottle inside whose agent idles, too.
local launch = require "std.launch"

return recipe(function(plan)
  plan.agent.command = { "/bottler", "idle" }
  local agent = launch(plan)
  bottle("shell", { slug = "inner", image = "bottler-test:busybox", command = { "/bin/sleep", "1000" } })
  return agent
end)

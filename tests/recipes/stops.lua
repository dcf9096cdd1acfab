-- An attacker from the workspace stops whatever joins its container.
local launch = require "std.launch"

return recipe(function(plan)
  plan.agent.command = { "./attacker", "--exact", "inside::stops_others", "--ignored", "--nocapture" }
  local agent = launch(plan)
  return agent
end)

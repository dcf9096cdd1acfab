local launch = require "std.launch"
return recipe(function(plan)
  local agent = launch(plan)
  agent:wait { timeout = "soon" }
  return agent
end)

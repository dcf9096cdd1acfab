local launch = require "std.launch"
return recipe(function(plan)
  local agent = launch(plan)
  agent:wait()
  provision(agent, { prompt = "late" })
  return agent
end)

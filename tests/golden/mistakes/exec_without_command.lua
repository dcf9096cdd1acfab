local launch = require "std.launch"
return recipe(function(plan)
  local agent = launch(plan)
  agent:exec { command = {} }
  return agent
end)

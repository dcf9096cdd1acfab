local launch = require "std.launch"
return recipe(function(plan)
  local agent = launch(plan)
  agent:exec { comand = { "true" } }
  return agent
end)

local launch = require "std.launch"
return recipe(function(plan)
  local agent = launch(plan, { before = { egress = "allow all" } })
  return agent
end)

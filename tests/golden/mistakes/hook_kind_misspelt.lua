local launch = require "std.launch"
return recipe(function(plan)
  local agent = launch(plan, { befor = {} })
  return agent
end)

local launch = require "std.launch"
return recipe(function(plan)
  local agent = launch(plan, { replace = { outside = function() end } })
  return agent
end)

-- A leaky bottle: the agent is on the ordinary network. The probe must turn red and the agent must not start.
local launch = require "std.launch"

return recipe(function(plan)
  local outside
  local agent = launch(plan, {
    after = { outside = function(handle) outside = handle end },
    before = { agent = function(options) options.network = outside end },
  })
  return agent
end)

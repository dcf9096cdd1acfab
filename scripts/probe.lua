-- The default launch with a counterpart: the sidecar `counterpart` is the only host that egress allows, and it counts
-- requests that reach it in any other way. It is also on a second network, like a sidecar of another bottle.
local launch = require "std.launch"

return recipe(function(plan)
  local counterpart
  local agent = launch(plan, {
    after = {
      outside = function(outside)
        local elsewhere = network_create { name = "elsewhere" }
        counterpart = sidecar_start { name = "counterpart", role = "counterpart", network = { outside, elsewhere } }
      end,
    },
    before = {
      egress = function(options) options.sidecars = { counterpart = counterpart } end,
      provision = function(options) options.probe = counterpart end,
    },
  })
  return agent
end)

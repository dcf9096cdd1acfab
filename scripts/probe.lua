-- The default launch with a counterpart: the sidecar `upstream` is the only host that egress allows, and it counts
-- requests that reach it in any other way. It is also on a second network, like a sidecar of another bottle.
local launch = require "std.launch"

return recipe(function(plan)
  local upstream
  local agent = launch(plan, {
    after = {
      outside = function(outside)
        local elsewhere = network_create { name = "elsewhere" }
        upstream = sidecar_start { name = "upstream", role = "upstream", network = { outside, elsewhere } }
      end,
    },
    before = {
      egress = function(options) options.sidecars = { upstream = upstream } end,
      provision = function(options) options.probe = upstream end,
    },
  })
  return agent
end)

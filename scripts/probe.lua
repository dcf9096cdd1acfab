-- The default launch, and a counterpart: the sidecar `upstream` is the one host that egress lets through, and counts
-- whatever comes to it any other way. It is on a second network too, as another bottle's sidecar would be.
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

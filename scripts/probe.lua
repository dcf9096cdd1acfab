-- The default launch, and a counterpart: the sidecar `counterpart` is the one host that egress lets through, and counts
-- whatever comes to it any other way. It is on a second network too, as another bottle's sidecar would be.
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

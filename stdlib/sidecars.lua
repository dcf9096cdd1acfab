-- The sidecars of the default launch, one function each: networks, the plan's section, and what they depend on.
local sidecars = {}

-- The only way out: what the plan allows, and nothing else.
function sidecars.egress(net, plan)
  local egress = sidecar_start { name = "egress", role = "egress", network = net.outside, allow = plan.allow }
  return egress
end

return sidecars

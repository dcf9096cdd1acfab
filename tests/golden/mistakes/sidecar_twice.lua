return recipe(function(plan)
  local net = network_create { name = "n" }
  local one = sidecar_start { name = "egress", role = "egress", network = net }
  local two = sidecar_start { name = "egress", role = "egress", network = net }
end)

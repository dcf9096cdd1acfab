return recipe(function(plan)
  local net = network_create { name = "n" }
  local egress = sidecar_start { name = "egress", role = "egress", network = net, allow = { "*.com" } }
end)

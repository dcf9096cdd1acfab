return recipe(function(plan)
  local net = network_create { name = "n" }
  net:close()
  local egress = sidecar_start { name = "egress", role = "egress", network = net }
end)

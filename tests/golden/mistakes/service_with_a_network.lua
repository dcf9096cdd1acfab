return recipe(function(plan)
  local net = network_create { name = "n" }
  local db = sidecar_start { name = "db", image = "postgres:16", network = net }
end)

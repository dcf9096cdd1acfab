return recipe(function(plan)
  local data = volume_create { name = "data" }
  local db = sidecar_start { name = "db", image = "postgres:16", volumes = { data = data } }
end)

return recipe(function(plan)
  local db = sidecar_start { name = "db", image = "postgres:16", env = { A = {} } }
end)

return recipe(function(plan)
  local db = sidecar_start { name = "db", image = "postgres:16", ready = { tpc = 5432 } }
end)

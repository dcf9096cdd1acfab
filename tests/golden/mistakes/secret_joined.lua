return recipe(function(plan)
  local password = secret.random(24)
  local url = "postgres://" .. password
end)

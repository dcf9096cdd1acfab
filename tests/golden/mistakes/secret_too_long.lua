return recipe(function(plan)
  local password = secret.random(1000)
end)

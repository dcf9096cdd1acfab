return recipe(function(plan)
  local url = secret.format("%s:%s", "user")
end)

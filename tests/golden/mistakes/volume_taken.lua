return recipe(function(plan)
  local home = volume_create { name = "home" }
end)

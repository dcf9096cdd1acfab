return recipe(function(plan)
  local net = network_create { name = "my net" }
end)

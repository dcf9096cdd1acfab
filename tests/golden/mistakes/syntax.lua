return recipe(function(plan)
  local net = = network_create { name = "n" }
end)

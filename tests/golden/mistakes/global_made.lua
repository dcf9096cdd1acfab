return recipe(function(plan)
  net = network_create { name = "n" }
end)

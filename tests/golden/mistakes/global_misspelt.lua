return recipe(function(plan)
  local net = netwrok_create { name = "n" }
end)

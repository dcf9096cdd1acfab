return recipe(function(plan)
  defer("log")
end)

return recipe(function(plan)
  return "done"
end)

return recipe(function(plan)
  local b = bottle("probe", { promt = "hi" })
end)

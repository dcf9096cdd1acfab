return recipe(function(plan)
  local b = bottle("probe", { prompt = "hi" })
  b:save_patch("../fix.patch")
end)

return recipe(function(plan)
  local b = bottle("cluade", { prompt = "hi" })
  b:wait()
end)

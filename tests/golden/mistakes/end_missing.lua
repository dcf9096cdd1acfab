return recipe(function(plan)
  if plan.git then
    log("git")
end)

return recipe(function(plan)
  defer(function() network_create { name = "late" } end)
end)

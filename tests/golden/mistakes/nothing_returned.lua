local make = recipe(function(plan) end)

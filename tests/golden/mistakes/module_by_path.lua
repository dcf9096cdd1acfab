local x = require "../../etc/passwd"
return recipe(function(plan) end)

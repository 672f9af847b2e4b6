-- Called when a hold ends without a cost, or its reservation got no answer.
-- ARGV: id.
remove(ARGV[1])
return 0

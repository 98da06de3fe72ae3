# Prints the status of one call: status.rb URL
require "net/http"

puts Net::HTTP.get_response(URI(ARGV[0])).code

# WEBrick: says its marker, and who asked. ADDRESS PORT MARKER
require 'webrick'

address, port, marker = ARGV
server = WEBrick::HTTPServer.new(BindAddress: address, Port: port.to_i, DoNotReverseLookup: true)
server.mount_proc('/') do |request, response|
  _, peer_port, _, peer = request.peeraddr
  response['Content-Type'] = 'text/plain'
  response.body = "#{marker} peer=#{peer} port=#{peer_port} pid=#{$$}\n"
end
trap('TERM') { server.shutdown }
server.start

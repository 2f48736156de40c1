// Node's cluster: two workers behind one port. ADDRESS PORT MARKER
const cluster = require('cluster');

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
  process.on('SIGTERM', () => process.exit(0));
} else {
  require('./server.js');
}

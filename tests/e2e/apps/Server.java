import com.sun.net.httpserver.HttpServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;

/** The JDK's HttpServer: says its marker, and who asked. ADDRESS PORT MARKER */
public class Server {
    public static void main(String[] args) throws Exception {
        InetAddress address = InetAddress.getByName(args[0]);
        int port = Integer.parseInt(args[1]);
        HttpServer server = HttpServer.create(new InetSocketAddress(address, port), 0);
        server.createContext("/", exchange -> {
            InetSocketAddress peer = exchange.getRemoteAddress();
            byte[] body = String.format("%s peer=%s port=%d pid=%d\n", args[2],
                peer.getAddress().getHostAddress(), peer.getPort(), ProcessHandle.current().pid())
                .getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}

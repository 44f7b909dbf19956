import ca.uhn.hl7v2.DefaultHapiContext;
import ca.uhn.hl7v2.HL7Exception;
import ca.uhn.hl7v2.HapiContext;
import ca.uhn.hl7v2.app.HL7Service;
import ca.uhn.hl7v2.model.Message;
import ca.uhn.hl7v2.protocol.ReceivingApplication;
import ca.uhn.hl7v2.protocol.ReceivingApplicationException;
import ca.uhn.hl7v2.validation.impl.ValidationContextFactory;
import java.io.IOException;
import java.util.Map;

/** HAPI's SimpleServer on a port: it parses each message, acknowledges it and stores nothing. Validation is off, its fastest. */
public final class AcknowledgingServer {
    public static void main(String[] arguments) throws InterruptedException {
        HapiContext context = new DefaultHapiContext();
        context.setValidationContext(ValidationContextFactory.noValidation());
        HL7Service server = context.newServer(Integer.parseInt(arguments[0]), false);
        server.registerApplication(new ReceivingApplication<Message>() {
            @Override
            public Message processMessage(Message message, Map<String, Object> metadata)
                    throws ReceivingApplicationException, HL7Exception {
                try {
                    return message.generateACK();
                } catch (IOException error) {
                    throw new HL7Exception(error);
                }
            }

            @Override
            public boolean canProcess(Message message) {
                return true;
            }
        });
        server.startAndWait();
        System.out.println("ready");
        Thread.currentThread().join();
    }
}

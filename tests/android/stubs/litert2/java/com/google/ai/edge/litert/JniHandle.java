package com.google.ai.edge.litert;

public abstract class JniHandle implements AutoCloseable {
    private boolean destroyed;
    JniHandle() {}
    protected abstract void destroy();
    public final void close() {
        if (!destroyed) {
            destroyed = true;
            System.setProperty("phone.closed", (System.getProperty("phone.closed", "") + " " + getClass().getSimpleName()).trim());
            destroy();
        }
    }
}

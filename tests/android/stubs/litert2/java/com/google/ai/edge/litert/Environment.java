package com.google.ai.edge.litert;

public final class Environment extends JniHandle {
    final boolean npu;
    private Environment(boolean npu) { this.npu = npu; }
    public static Environment create() { return new Environment(false); }
    public static Environment create(NpuAcceleratorProvider npuAcceleratorProvider) { return new Environment(true); }
    protected void destroy() {}
}

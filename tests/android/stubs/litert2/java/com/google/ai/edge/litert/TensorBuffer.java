package com.google.ai.edge.litert;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

public final class TensorBuffer extends JniHandle {
    byte[] content;
    TensorBuffer(int bytes) { content = new byte[bytes]; }
    public void writeInt8(byte[] data) { content = data.clone(); }
    public byte[] readInt8() { return content.clone(); }
    public void writeFloat(float[] data) {
        ByteBuffer buffer = ByteBuffer.allocate(4 * data.length).order(ByteOrder.nativeOrder());
        buffer.asFloatBuffer().put(data);
        content = buffer.array();
    }
    public float[] readFloat() {
        float[] data = new float[content.length / 4];
        ByteBuffer.wrap(content).order(ByteOrder.nativeOrder()).asFloatBuffer().get(data);
        return data;
    }
    protected void destroy() {}
}

package android.security.keystore;

public final class KeyGenParameterSpec implements java.security.spec.AlgorithmParameterSpec {
    private KeyGenParameterSpec() {}
    public static final class Builder {
        public Builder(String alias, int purposes) {}
        public native Builder setBlockModes(String... modes);
        public native Builder setEncryptionPaddings(String... paddings);
        public native Builder setKeySize(int bits);
        public native KeyGenParameterSpec build();
    }
}
